"""Turns a dense checkpoint of the Llama family into a Read-ME one: see README.md."""
