"""What are features worth? One protocol for every encoder, beside null models that know nothing."""
