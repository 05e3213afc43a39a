"""What an extractor sees: measured on public pictures, drawn, and put into words. No torch, no network."""
