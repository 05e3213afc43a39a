"""What an extractor is: preprocess, flatten and files need numpy only; everything else needs torch."""
