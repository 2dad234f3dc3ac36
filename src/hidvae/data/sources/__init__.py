"""Where raw tables come from: a folder of files, or the generated demo."""
