# What the real one does as far as it goes here: its tools are found.
mkdir -p /tmp/bin
ln -sf "$IDF_PATH/tools/idf.py" /tmp/bin/idf.py
ln -sf /usr/bin/python3 /tmp/bin/python
export PATH="/tmp/bin:$PATH"
echo "Done! You can now compile ESP-IDF projects."
