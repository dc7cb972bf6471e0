"""The programs that compiling and measuring need: found, checked, called."""
