"""Items to vectors and tags: text encoders, co-occurrence, category paths; stages embed and tag."""
