"""What the scripts do: each stage takes plain values, a Run to write into, and returns a StageResult."""
