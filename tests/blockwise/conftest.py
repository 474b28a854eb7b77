"""Lets tests here, and the processes that they start, import the modules beside them."""

import os
import sys

sys.path.append(os.path.dirname(__file__))
