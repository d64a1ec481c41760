"""Associations (PS3.7, PS3.8). The only folder that reaches into private parts of pynetdicom."""
