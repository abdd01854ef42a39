return {
  reconcile = { disabled = false },
}
