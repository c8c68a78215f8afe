"""config - settings: TOML files become one frozen, checked Config."""
