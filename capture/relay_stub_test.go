package capture

const relayEnv = "CAPTURE_TEST_RELAY"

func relay(string) int { return 0 }
