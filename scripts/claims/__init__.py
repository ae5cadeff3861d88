"""The paper's claims as data, judged from the records of the reduced study: python -m scripts.claims."""
