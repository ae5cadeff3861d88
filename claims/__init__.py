"""The paper's claims, one by one, from the records of the reduced study: see scripts/claims.py."""
