"""What coordinator and participant must agree on to the byte."""
