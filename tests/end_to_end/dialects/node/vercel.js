// Asks for one picture with Vercel's AI SDK, and prints what it makes of the answer.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";

const [baseURL, body] = process.argv.slice(2);
const { provider, model, ...wish } = JSON.parse(body);
const settings = { name: "easel", baseURL, apiKey: "none" };
const chosen = provider === "openai" ? createOpenAI(settings) : createOpenAICompatible(settings);
try {
  const { images } = await generateImage({ model: chosen.imageModel(model), ...wish });
  const pictures = images.map((image) => ({ base64: image.base64, mediaType: image.mediaType }));
  console.log(JSON.stringify({ pictures }));
} catch (error) {
  console.log(JSON.stringify({ status: error.statusCode, message: error.message }));
}
