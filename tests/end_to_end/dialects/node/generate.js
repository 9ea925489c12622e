// Asks for one picture, as any program with OpenAI's library does, and prints the whole answer.
import OpenAI from "openai";

const [baseURL, body] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none" });
try {
  console.log(JSON.stringify(await client.images.generate(JSON.parse(body))));
} catch (error) {
  console.log(JSON.stringify({ status: error.status, error: error.error }));
}
