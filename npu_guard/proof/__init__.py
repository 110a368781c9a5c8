"""Proofs: two models as one function, by evaluation at a random point of finite fields."""
