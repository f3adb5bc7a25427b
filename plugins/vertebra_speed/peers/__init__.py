"""The other side: Hugging Face's own programs, unmodified."""
