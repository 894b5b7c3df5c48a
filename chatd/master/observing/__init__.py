"""What the master sees of itself and its workers: their figures, and the judgement of them."""
