"""How a list is ranked: search, item graph, filters, recommender, changed items."""
