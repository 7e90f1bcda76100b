"""Recipes: workflows with named places, for servers that run graphs or settings (ComfyUI, Wan2GP). Pure but for reading files.

`recipe` says what one is, `loading` and `checking` read them, `nodes` understands what a server has, `fitting` tells whether
a recipe can run there, `filling` puts a call into it, `loras` puts LoRAs between.
"""
