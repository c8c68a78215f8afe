"""mail - the nouns: values that cross every floor, no I/O."""
