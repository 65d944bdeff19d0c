"""The Train dock: training on labelled sets, of open layers or in folders."""
