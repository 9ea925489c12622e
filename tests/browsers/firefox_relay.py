#!/usr/bin/env python3
"""Firefox for Playwright, which starts this program instead of it.

Playwright drives Firefox by WebDriver BiDi, and asks every new context for colours and contrast by
a command that Debian's Firefox, an extended support release, is too old to know. This relay lets
that one command succeed; everything else passes as it is. Playwright's own build has no need of it.
https://w3c.github.io/webdriver-bidi/#command-emulation-setMediaFeaturesOverride
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from aiohttp import ClientSession, web

NOT_KNOWN_YET = "emulation.setMediaFeaturesOverride"
LISTENING = "WebDriver BiDi listening on "


async def main(firefox: str, arguments: list[str]) -> None:
    """Start Firefox, and say in its words where it is driven from."""
    process = await asyncio.create_subprocess_exec(
        firefox, *arguments, stderr=asyncio.subprocess.PIPE
    )
    app = web.Application()
    app.router.add_get("/session", relay)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async for line in process.stderr:
        told = line.decode(errors="replace")
        if LISTENING in told:
            app["firefox"] = told.partition(LISTENING)[2].strip()
            told = f"{LISTENING}ws://127.0.0.1:{runner.addresses[0][1]}\n"
        print(told, end="", file=sys.stderr, flush=True)
    sys.exit(await process.wait())


async def relay(request: web.Request) -> web.WebSocketResponse:
    """Pass messages between Playwright and Firefox until either hangs up."""
    near = web.WebSocketResponse(max_msg_size=0)
    await near.prepare(request)
    address = f"{request.app['firefox']}/session"
    async with ClientSession() as session, session.ws_connect(address, max_msg_size=0) as far:
        excused: set[int] = set()
        both = (pass_commands(near, far, excused), pass_answers(far, near, excused))
        ways = [asyncio.create_task(way) for way in both]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
    return near


async def pass_commands(near, far, excused):
    async for message in near:
        command = json.loads(message.data)
        if command["method"] == NOT_KNOWN_YET:
            excused.add(command["id"])
        await far.send_str(message.data)


async def pass_answers(far, near, excused):
    async for message in far:
        answer = json.loads(message.data)
        if answer.get("error") == "unknown command" and answer.get("id") in excused:
            await near.send_json({"type": "success", "id": answer["id"], "result": {}})
        else:
            await near.send_str(message.data)


if __name__ == "__main__":
    asyncio.run(main(os.environ["FIREFOX"], sys.argv[1:]))
