"""The statements of notebook 1 and what checks them."""
