"""Who answers: litellm's providers, the embedded offline model, and scripted fakes for tests."""
