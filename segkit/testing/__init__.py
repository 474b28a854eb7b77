"""What tests, demos and plugin authors share: synthetic volumes and suites to subclass."""
