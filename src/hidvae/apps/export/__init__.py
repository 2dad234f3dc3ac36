"""Hand a run over: a program that needs torch alone, a model card, a folder for the Hub."""
