"""The embedding model: its files and their proof, its tokenizer, its session. Alone imports onnxruntime."""
