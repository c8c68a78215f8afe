"""amavispy's metadata, dependencies, extras and entry points."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "amavispy/__init__.py").read_text())[1]  # type: ignore[index]

setup(
    name="amavispy",
    version=VERSION,
    description="A preforking mail content filter between the MTA and the mailboxes, modelled on amavisd",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["amavispy", "amavispy.*"]),
    package_data={"amavispy": ["inspection/yara_rules/*.yar", "py.typed"]},
    install_requires=[
        "setproctitle>=1.3",
        "python-daemon>=3.1",
        "psutil>=5.9",
        "netifaces>=0.11",
        "click>=8.1",
        "rich>=13",
        "python-magic>=0.4.27",
        "libarchive-c>=5.1",
        "olefile>=0.46",
        "cryptography>=42",
        "pyseccomp>=0.1.2",
    ],
    extras_require={
        "yara": ["yara-x>=1.0"],
        "sql": ["SQLAlchemy>=2.0", "alembic>=1.13", "psycopg[binary]>=3.3", "PyMySQL>=1.1"],
        "ldap": ["ldap3>=2.9"],
        "redis": ["redis[hiredis]>=5.0"],
        "dns": ["dnspython>=2.4"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "mypy>=1.11",
            "ruff>=0.6",
            "import-linter>=2.0",
            "types-psutil",
            "pypdf>=5",
        ],
    },
    entry_points={"console_scripts": ["amavispy = amavispy.cli.main:main"]},
)
