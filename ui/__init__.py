"""The workbench: Streamlit pages over the public names of `merging`."""
