"""Export and quantisation, in environments of their own."""
