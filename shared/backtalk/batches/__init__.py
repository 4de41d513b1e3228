"""Files of requests through the queues, in the form of OpenAI's Batch API: sent, collected, cancelled, resumed."""
