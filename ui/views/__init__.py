"""The pages, one file each; `ui.app` lists them."""
