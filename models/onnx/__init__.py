"""An exported ONNX model on ONNX Runtime or OpenVINO: chosen, proved and run."""
