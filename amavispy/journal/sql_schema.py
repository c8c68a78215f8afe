"""SQL schema - amavis' tables of records and quarantine, column by column as its documentation has them.

Programs of other people read these tables (mailzu, modoboa, iRedAdmin), so nothing here is ours to improve: names,
types, defaults and indexes are those of amavis' README.sql-pg and README.sql-mysql. SQLite gets what PostgreSQL has.

Nothing is connected to here. **Failures:** none.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CHAR,
    REAL,
    TIMESTAMP,
    VARCHAR,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import mysql

TABLES = ("maddr", "msgs", "msgrcpt", "quarantine")


def _mail_id() -> LargeBinary:
    return LargeBinary().with_variant(mysql.VARBINARY(16), "mysql", "mariadb")


def _address_id() -> Integer:
    return Integer().with_variant(mysql.BIGINT(unsigned=True), "mysql", "mariadb")


def _count() -> Integer:
    return Integer().with_variant(mysql.INTEGER(unsigned=True), "mysql", "mariadb")


def _score() -> REAL[float]:
    return REAL().with_variant(Float(), "mysql", "mariadb")


def _text() -> VARCHAR:
    return VARCHAR(255)


def _utf8_text() -> VARCHAR:
    unicode = mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin")
    return VARCHAR(255).with_variant(unicode, "mysql", "mariadb")


def _when() -> TIMESTAMP:
    """In MySQL and SQLite a text such as 20261122T100733Z."""
    return TIMESTAMP(timezone=True).with_variant(CHAR(16), "mysql", "mariadb", "sqlite")


def _tag() -> Column[int]:
    return Column("partition_tag", Integer, server_default=text("0"), autoincrement=False)


def _flag(name: str) -> Column[str]:
    return Column(name, CHAR(1), server_default=" ", nullable=False)


def _optional(name: str) -> Column[str]:
    return Column(name, _text(), server_default="")


def _positive(table: str, column: str) -> CheckConstraint:
    """As PostgreSQL names them. MySQL's columns are unsigned instead."""
    return CheckConstraint(f"{column} >= 0", name=f"{table}_{column}_check").ddl_if(callable_=_is_not_mysql)


def _is_not_mysql(*_: Any, dialect: Any, **__: Any) -> bool:
    return dialect.name not in ("mysql", "mariadb")


def metadata() -> MetaData:
    """The four tables and their indexes."""
    tables = MetaData()
    _maddr(tables)
    _msgs(tables)
    _msgrcpt(tables)
    _quarantine(tables)
    return tables


def _maddr(tables: MetaData) -> None:
    email = LargeBinary().with_variant(mysql.VARBINARY(255), "mysql", "mariadb")
    Table(
        "maddr",
        tables,
        Column("partition_tag", Integer, server_default=text("0")),
        Column("id", _address_id(), primary_key=True, autoincrement=True),
        Column("email", email, nullable=False),
        Column("domain", _text(), nullable=False),
        UniqueConstraint("partition_tag", "email", name="part_email"),
        mysql_engine="InnoDB",
        sqlite_autoincrement=True,
    )


def _msgs(tables: MetaData) -> None:
    location = VARCHAR(255).with_variant(mysql.VARBINARY(255), "mysql", "mariadb")
    table = Table(
        "msgs",
        tables,
        _tag(),
        Column("mail_id", _mail_id(), nullable=False),
        Column("secret_id", _mail_id(), server_default=""),
        Column("am_id", VARCHAR(20), nullable=False),
        Column("time_num", _count(), nullable=False, autoincrement=False),
        Column("time_iso", _when(), nullable=False),
        Column("sid", _address_id(), nullable=False),
        _optional("policy"),
        _optional("client_addr"),
        Column("size", _count(), nullable=False),
        _flag("originating"),
        Column("content", CHAR(1)),
        Column("quar_type", CHAR(1)),
        Column("quar_loc", location, server_default=""),
        Column("dsn_sent", CHAR(1)),
        Column("spam_level", _score()),
        _optional("message_id"),
        Column("from_addr", _utf8_text(), server_default=""),
        Column("subject", _utf8_text(), server_default=""),
        Column("host", _text(), nullable=False),
        PrimaryKeyConstraint("partition_tag", "mail_id", name="msgs_partition_mail"),
        *(_positive("msgs", column) for column in ("time_num", "sid", "size")),
        mysql_engine="InnoDB",
    )
    Index("msgs_idx_sid", table.c.sid)
    Index("msgs_idx_mess_id", table.c.message_id)
    Index("msgs_idx_time_num", table.c.time_num)
    Index("msgs_idx_time_iso", table.c.time_iso).ddl_if(callable_=_is_not_mysql)


def _msgrcpt(tables: MetaData) -> None:
    table = Table(
        "msgrcpt",
        tables,
        _tag(),
        Column("mail_id", _mail_id(), nullable=False),
        Column("rseqnum", Integer, server_default=text("0"), nullable=False, autoincrement=False),
        Column("rid", _address_id(), nullable=False),
        _flag("is_local"),
        _flag("content"),
        Column("ds", CHAR(1), nullable=False),
        Column("rs", CHAR(1), nullable=False),
        Column("bl", CHAR(1), server_default=" "),
        Column("wl", CHAR(1), server_default=" "),
        Column("bspam_level", _score()),
        _optional("smtp_resp"),
        PrimaryKeyConstraint("partition_tag", "mail_id", "rseqnum", name="msgrcpt_partition_mail_rseq"),
        mysql_engine="InnoDB",
    )
    Index("msgrcpt_idx_mail_id", table.c.mail_id)
    Index("msgrcpt_idx_rid", table.c.rid)


def _quarantine(tables: MetaData) -> None:
    Table(
        "quarantine",
        tables,
        _tag(),
        Column("mail_id", _mail_id(), nullable=False),
        Column("chunk_ind", _count(), nullable=False, autoincrement=False),
        Column("mail_text", LargeBinary, nullable=False),
        PrimaryKeyConstraint("partition_tag", "mail_id", "chunk_ind"),
        _positive("quarantine", "chunk_ind"),
        mysql_engine="InnoDB",
    )
