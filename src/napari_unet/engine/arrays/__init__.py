"""Prediction of arrays that need not fit into memory, on this machine or on a Dask cluster."""
