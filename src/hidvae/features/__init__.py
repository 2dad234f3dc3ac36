"""Items to vectors and tags: text encoders, transitions, category paths; stages embed and tag."""
