"""`pde`: which coefficient fields are consistent with the readings, and with what uncertainty?"""
