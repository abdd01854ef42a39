"""The custom resources as pydantic models: the only schema. CRDs, JSON Schemas and reference docs come from them."""
