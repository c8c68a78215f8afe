"""What a client meets before and between its mails: greeting, access, limits, queue, time-outs."""


def test_a_mail_is_taken(daemon):
    client = daemon.client().greet()
    assert client.mail().startswith("250 2.0.0 Ok")
    assert client.say("QUIT").startswith("221 2.0.0")
    assert client.hear() == ""


def test_one_connection_carries_many_mails(daemon):
    client = daemon.client().greet()
    assert [client.mail()[:3] for _ in range(20)] == ["250"] * 20
