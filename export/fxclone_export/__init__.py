"""Writing clone files: building blocks of streaming ONNX graphs, and the proof that a file does what its model did."""
