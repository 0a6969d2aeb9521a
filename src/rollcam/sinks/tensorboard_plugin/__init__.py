"""TensorBoard plugin: plays the real films inside TensorBoard. Loaded by TensorBoard alone."""
