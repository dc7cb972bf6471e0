"""Contract suites for plug-ins: subclass one in your tests, give its fixtures, and pytest runs what lrfdse needs."""
