"""What developers measure beside `gptoss-native bench`: other engines, and the parser."""
