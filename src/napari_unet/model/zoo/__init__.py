"""Models from and to elsewhere: bioimage.io packages and ONNX files, read as data alone."""
