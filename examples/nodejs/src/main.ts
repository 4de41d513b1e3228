// A job, its response, feedback on it and the gradient of the prompt.
import { Backtalk } from "./backtalk.js";

// what a model answers is OpenAI's to describe
interface ChatCompletion {
  choices: { message: { content: string | null } }[];
}

async function main(): Promise<void> {
  const backtalk = await Backtalk.open({
    url: process.env.BACKTALK_AMQP_URL || "amqp://guest:guest@127.0.0.1:5672/",
    namespace: process.env.BACKTALK_NAMESPACE || "backtalk",
    seconds: Number(process.env.SAMPLE_SECONDS || 60),
  });
  const result = await backtalk.complete({
    model: "gpt-4o",
    messages: [
      {
        role: "system",
        content: [
          { id: "prompt-1", data: "You are a helpful assistant.", role: "system instruction", requires_grad: true },
        ],
      },
      { role: "user", content: "Translate 'Hello' to {language}." },
    ],
    inputs: { language: ["Italian", "French"] },
  });
  for (const completion of (result.completions ?? []) as unknown as ChatCompletion[]) {
    console.log("response:", completion.choices[0]?.message.content);
  }
  if (!result.graph || !result.output) throw new Error("the result has no graph to give feedback on");
  const { gradients = {} } = await backtalk.differentiate({
    graph: result.graph,
    feedback: [{ variable: result.output, text: "Use only capital letters." }],
  });
  for (const gradient of gradients["prompt-1"] ?? []) console.log("gradient:", gradient.text);
  await backtalk.close();
}

main().catch((error: Error) => {
  console.error(error.message || String(error));
  // at once: a broker that hangs would not let the connection be closed
  process.exit(1);
});
