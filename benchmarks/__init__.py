"""What Rollcam costs, measured against its peers; `run.py` asks the questions."""
