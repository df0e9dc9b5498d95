"""What tests of all folders may ask for."""

pytest_plugins = ("tests.databases",)
