"""A face in the browser: live sessions over WebRTC and WebSocket, files as jobs. Needs the extra [serve]."""
