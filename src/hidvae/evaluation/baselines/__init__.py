"""What the model is compared with, on the same split and through the same evaluator."""
