"""A failed run raises an alarm by e-mail: with a real Prefect server and a mail server on loopback."""

import email.policy
import queue
import socketserver
import threading

import pytest

from benchmarks.kit.prefect_server import prefect_server
from tests.kit.programs import SECONDS, run_module

PASSWORD = "pl4nted-mail-51c8"  # noqa: S105  nobody's


class MailServer(socketserver.ThreadingTCPServer):
    """A server with as much of RFC 5321 as it takes to receive mails; it keeps them in `mails`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Conversation)
        self.mails = queue.Queue()


class Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        self.say("220 localhost")
        for line in self.rfile:
            match line.split()[0].upper():
                case b"EHLO":
                    self.say("250-localhost\r\n250 AUTH PLAIN")
                case b"AUTH":
                    self.say("235 welcome")
                case b"DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    self.server.mails.put(email.message_from_bytes(b"".join(lines), policy=email.policy.default))
                    self.say("250 taken")
                case b"QUIT":
                    return self.say("221 bye")
                case _:
                    self.say("250 well")

    def say(self, line):
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mail_server():
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(SECONDS)


def test_run_that_fails_is_told_by_e_mail_and_the_password_is_nowhere(
    mail_server, workspace, new_home, tmp_path, files_with
):
    host, port = mail_server.server_address
    address = (
        f"mailto://graftline:{PASSWORD}@{host}:{port}?mode=insecure&from=graftline@example.org&to=team@example.org"
    )
    home = new_home()
    with prefect_server(home) as environment:

        def run(*arguments, status, **settings):
            done = run_module(*arguments, status=status, env=environment | settings)
            assert PASSWORD not in done.stdout + done.stderr

        run("flows.notify", status=0, GRAFTLINE_EMAIL=address)
        run("flows.ingest", f"{tmp_path}/nowhere", status=1)
        mail = mail_server.mails.get(timeout=SECONDS)
    assert mail["subject"] == "Graftline: ingest is failed"
    assert mail["to"].endswith("team@example.org")
    said = mail.get_body(("plain", "html")).get_content()
    assert f"ingest is failed: `there is no landing at {tmp_path}/nowhere" in said
    assert (home / "prefect.db").is_file()
    assert files_with(PASSWORD, home) == []
