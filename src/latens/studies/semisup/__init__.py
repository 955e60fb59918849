"""`semisup`: what can few labels do, and does the model know what it does not know?"""
